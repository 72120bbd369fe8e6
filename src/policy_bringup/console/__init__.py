"""The operator page: what the robot does and why it stopped, in a browser. No ROS here."""
