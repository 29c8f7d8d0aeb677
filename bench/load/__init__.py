"""How much of a framework's own speed is left with sessions: coatcheck and its peers under load, side by side.

`make bench` runs it all and prints the tables; `make bench ARGS=--record` writes them into docs/performance.md too,
which says how to read them. Every contender serves the same paths:

    /fill   puts SESSION into the session (the load's cookies come from here)
    /read   reads one attribute of it; the idle timeout slides
    /write  adds 1 to another
    /hits   tells that one

The application has one core to itself; the load (wrk) and the store share the other. A contender's share is its
requests per second divided by those of the bare framework in the same round. Rounds go through all contenders of a
framework in turn, so that what slows the machine slows all; a figure is the median.
"""
