"""The orchestrator's side of the egress: keeping it running, telling it what holds, and copying what it wrote down.

settings    what it is told, made of muster.yaml, the roster, and limits given by command (pure)
copying     from its ledger into the register, in order and without gaps
news        what becomes of that: agents' rows, and what is said
telling     what operators are told of what it did (pure)
attempts    what agents try in vain, summed up (pure)
hung        one that is there and does not answer
process     starting and stopping its process
source      where an egress is to be had
outlet      all of it together, for commands and the start of agents
condition   how it is, as `health` shows it
stop        the emergency stop, which needs nobody
"""
