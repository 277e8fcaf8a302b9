"""The small package behind the course *Variable-Length Batches in PyTorch*.

Import from the modules by name, as the notebooks do: ``from course_utils.batches.masks import
lengths_to_keep_mask``. Its parts, each importing only from those above it: ``batches``,
``testing``, ``data``, the modules ``models``, ``training`` and ``tracing``, ``pictures``,
``panels``, ``exercises``.
"""
