"""Pictures with controls: torch runs again as a control moves. Only this folder imports ipywidgets.

Not here: the drawings themselves, which are in ``course_utils.pictures``.
"""
