"""The ways in which systems that move money have failed in public, each as a test that it does not happen here.

A message is answered, or acknowledged, before its effect is on disk; a conflict is shown as a verdict, or tried again
for ever; half of what is called atomic is seen; an id is forgotten; an end that was cut off goes unseen. Many tests
elsewhere come by the same places in their own way. Here each trap has one, from end to end, so that all can be read at
once: `test_delivery` with real workers and a real broker, `test_verdicts` with the settlement, `test_cut_tail` with the
proof of the books.
"""
