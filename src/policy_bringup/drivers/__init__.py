"""Devices that need no ROS: cameras and recordings that stand in for them."""
