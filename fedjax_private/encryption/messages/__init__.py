"""Messages between parties: their bytes, and the keys that authenticate them.

    channels <- wire <- material

Nothing here knows a ciphertext, a secret key of a scheme, or OpenFHE.
"""
