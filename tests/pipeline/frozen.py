"""Loaded last by the process that others are forked from: nobody need look for rubbish among what is loaded by then."""

import gc

gc.freeze()
