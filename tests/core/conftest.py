from hypothesis import settings

# The same examples on every run, and no time limit per example: the machine may be busy.
settings.register_profile("core", deadline=None, derandomize=True, max_examples=100)
settings.load_profile("core")
