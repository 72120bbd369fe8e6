"""The simulated robot: mujoco and nothing else. It stands in for the robot's driver, its controller and its cameras."""
