"""Projects, and their topics: threads in which an agent of its own works on what somebody asked in a chat room."""
