"""What others measured of a model, as a first guess until it is measured here. Decides nothing.

``source`` reads a file or an address, ``formats`` makes rows of it, ``matching`` finds the row that
speaks of a local model (``names`` takes names apart), and ``priors`` turns it into P(good) for
each prompt group. Nothing here runs by itself, and no address is built in.
"""
