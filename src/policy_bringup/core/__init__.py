"""The shared language of the stack: pure numpy, no ROS, no clock, no devices."""
