"""The one gate between every source of actions and the arm: refuses with a reason, never alters silently."""
