"""Chat systems: what a message is, what a connector can do, and how nothing said is lost or said twice."""
