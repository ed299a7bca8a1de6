"""Features of phrases: encoded once, checked once, compared and stored in one way.

protocol (what an encoder is), ragged (padding), encode (the loop over texts and its check), compare (cosines),
store (phrase -> features on disk), fingerprint (whose features), embed (fill a store), bank (a store as an encoder).
"""
