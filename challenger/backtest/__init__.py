"""What a policy would have done: the watcher's own rules played over a history, without a key and without a chain.

``past`` is what is known of each commitment, ``sources`` reads it from a database, a recording or endpoints, ``choices``
are the policies to compare, ``simulate`` plays one of them with one seed, ``score`` sums up many plays, ``figure`` draws.
"""
