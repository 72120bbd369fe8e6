"""From a safe action to joint commands: kinematics, inverse kinematics, limits. Pure numpy, no ROS, no clock."""
