"""The small package behind the course *Variable-Length Batches in PyTorch*.

Import from the modules by name, as the notebooks do: ``from course_utils.masks import
lengths_to_keep_mask``. A module imports only from those above it in this list: ``checks``,
``data``, ``masks``, ``batching``, ``sampling``, ``rows``, ``packed``, ``oracle``,
``invariance``, ``layers``, ``measure``, ``models``, ``training``, ``conventions``, ``tracing``,
``svg``, ``plots``, ``result_plots``, ``packed_plots``, ``mask_plots``, ``trace_plots``,
``policy_plots``, ``row_plots``, ``widgets``, ``mask_widgets``, ``trace_widgets``,
``policy_widgets``, ``row_widgets``, ``exercises``.
"""
