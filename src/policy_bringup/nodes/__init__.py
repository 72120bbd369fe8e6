"""ROS 2 nodes, one process each: they declare, convert, call and publish; what they call is in the pure folders."""
