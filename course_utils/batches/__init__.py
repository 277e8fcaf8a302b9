"""What happens to a ragged batch: checks, padding, masks, packing, rows, samplers, layers.

Whole models are in ``course_utils.models``, and ``course_utils.testing`` asks whether a batch
changed the answer.
"""
