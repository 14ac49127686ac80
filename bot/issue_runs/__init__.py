"""Issues of a forge that become pull requests: the acting part of `forge`, with agents, chat and the register."""
