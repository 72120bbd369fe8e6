"""ROS 2 nodes, one process each: they declare, convert, call and publish; what they call is in the pure folders."""

import sys

from policy_bringup.nodes.lacking import say_and_end

sys.excepthook = say_and_end
