"""Numbers in, a `Picture` out: SVG drawings and matplotlib charts in one palette.

Not here: anything that computes the numbers, and the controls beside a picture, which are in
``course_utils.panels``.
"""
