"""The packers of chapter 07, written simply: slow, and what the fast ones must equal."""


def first_fit(lengths, capacity):
    rows, free = [], []
    for index, length in enumerate(lengths):
        row = next((row for row, space in enumerate(free) if length <= space), len(rows))
        if row == len(rows):
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= length
    return rows


def best_fit_decreasing(lengths, capacity):
    rows, free = [], []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        fits = [row for row in range(len(rows)) if free[row] >= lengths[index]]
        row = min(fits, key=lambda row: free[row], default=len(rows))
        if row == len(rows):
            rows.append([])
            free.append(capacity)
        rows[row].append(index)
        free[row] -= lengths[index]
    return rows


def pack_histogram(counts, capacity, most=None):
    most, plan = capacity if most is None else most, []
    open_rows = [[] for _ in range(capacity + 1)]  # by the room left: how many rows, what is inside
    for length in range(min(capacity, len(counts) - 1), 0, -1):
        left = counts[length]
        while left:
            fits = (space for space in range(length, capacity) if open_rows[space])
            space = next(fits, capacity)
            many, inside = open_rows[space].pop() if space < capacity else (left, [])
            each = min(space // length, most - len(inside), left)
            taken = min(many, left // each)
            left -= taken * each
            if inside and taken < many:
                open_rows[space].append((many - taken, inside))
            space, inside = space - each * length, inside + [length] * each
            full = space == 0 or len(inside) == most
            (plan if full else open_rows[space]).append((taken, inside))
    return plan + [group for groups in open_rows for group in groups]


def histogram_packing(lengths, capacity):
    waiting = {}
    for index, length in enumerate(lengths):
        waiting.setdefault(length, []).append(index)
    counts = [len(waiting.get(length, [])) for length in range(max(lengths) + 1)]
    rows = []
    for many, inside in pack_histogram(counts, capacity):
        group = [[] for _ in range(many)]
        for length in inside:
            for row in group:
                row.append(waiting[length].pop(0))
        rows += group
    return rows
