"""What Muster costs: start, round trip, memory, backlog. Run by hand: ``make bench``, or ``python -m benchmarks NAME``.

A benchmark is one module with a plain function `measure` that returns figures. What depends on the machine is measured
beside something bare in the same run, and only the ratio or the difference has a bound. A bound that is missed is
printed as missed, and the exit status says so.
"""
