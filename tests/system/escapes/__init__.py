"""What an agent that wants out tries from inside its sandbox, whichever that is: ``python -Es -m escapes``.

It runs alone, without anything of Muster's, reads from wishes.json what there is to be had, and writes into
findings.json what came of each attempt: a short text, with OPEN in it where it got through; and of those that the
egress refuses, what operators should read of it.

Run where there is no sandbox, it finds most of them open.
"""
