"""The loops of the all-objects build: the pairs of a tile that matter, their similarity, and the lists they enter.

A list entry is one uint64 that sorts as neighbors do: the similarity, from the highest down, in its upper half, the
row in its lower half. A tile is a block of queries by a block of candidates; a slot is the place of a list in memory.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lookalike.native import native, native_sum

Keys = NDArray[np.uint64]

PART = 128  # products that are summed in any order, before the sums of such parts
STRIP = 64  # columns of a tile that are gone through together, so that their vectors stay in the cache
CHUNK = 16  # scores looked at together

u32, u64, f32, f64 = np.uint32, np.uint64, np.float32, np.float64
HALF = u64(32)


@native_sum
def dot(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int) -> float:
    """Σ a[i]·b[j] in float64: the exact products of float32 numbers, in parts of PART, then the parts."""
    # Unsigned, or each index would be checked for being negative, and the loop not be done in vectors.
    x, y, part = u64(i), u64(j), u64(PART)
    d = u64(a.shape[1])
    whole = d - d % part
    total = 0.0
    for s in range(u64(0), whole, part):
        partial = 0.0
        for c in range(part):
            partial += f64(a[x, s + c]) * f64(b[y, s + c])
        total += partial
    partial = 0.0
    for c in range(whole, d):
        partial += f64(a[x, c]) * f64(b[y, c])
    return total + partial


@native
def careful(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int) -> tuple[float, float, float]:
    """The same sum as float64, with what its roundings lost, and those losses' absolute values added up.

    As Ogita, Rump and Oishi's Dot2 (2005), of products that are exact. Where nothing was lost, the sum is exact too.
    """
    total, lost, wrong = 0.0, 0.0, 0.0
    for d in range(a.shape[1]):
        product = f64(a[i, d]) * f64(b[j, d])
        more = total + product
        of_it = more - total
        rest = (total - (more - of_it)) + (product - of_it)
        lost += rest
        wrong += abs(rest)
        total = more
    return total, lost, wrong


@native
def pairs(
    scores: NDArray[np.generic],
    a: NDArray[np.float32],
    b: NDArray[np.float32],
    first: NDArray[np.int64],
    last: NDArray[np.int64],
    query_floor: NDArray[np.generic],
    candidate_floor: NDArray[np.generic],
    error: float,
    cursor: NDArray[np.int64],
    i_of: NDArray[np.int32],
    j_of: NDArray[np.int32],
    similarity: NDArray[np.float32],
) -> int:
    """Collect the pairs of a tile whose score reaches the floor of either side, with their canonical similarity.

    scores (q, c) and the floors (q,), (c,) : of one type, float32, or int16 that sorts as the numbers do.
    a (q, D), b (c, D) : the vectors. first, last (q,) : the columns of each query that are in its window.
    error : bound of `dot`'s error. cursor : the strip and the query to go on from, and the first and the end of the
    queries to go through; it stays where i_of, j_of and similarity (n,) are full. Returns how many pairs there are now;
    a similarity that is NaN lies too near to the middle of two float32 numbers to be told.
    """
    found, room = 0, len(i_of)
    columns = scores.shape[1]
    strip, begin, end = cursor[0], cursor[1], cursor[3]
    for s in range(strip, columns, STRIP):
        stop = min(s + STRIP, columns)
        for i in range(begin, end):
            low, high = max(s, first[i]), min(stop, last[i])
            if low >= high:
                continue
            if found + STRIP > room:
                cursor[0], cursor[1] = s, i
                return found
            floor = query_floor[i]
            for c in range(low, high, CHUNK):
                to = min(c + CHUNK, high)
                hit = False
                for j in range(u64(c), u64(to)):
                    hit |= (scores[u64(i), j] >= floor) | (scores[u64(i), j] >= candidate_floor[j])
                if not hit:
                    continue
                for j in range(c, to):
                    if scores[i, j] >= floor or scores[i, j] >= candidate_floor[j]:
                        i_of[found], j_of[found] = i, j
                        similarity[found] = canonical(a, i, b, j, error)
                        found += 1
        begin = cursor[2]
    cursor[0] = columns
    return found


@native
def canonical(a: NDArray[np.float32], i: int, b: NDArray[np.float32], j: int, error: float) -> np.float32:
    """The sum rounded once to float32; NaN where even `careful` cannot tell to which number. 0 may have either sign."""
    s = dot(a, i, b, j)
    value = f32(s + error)
    if value != f32(s - error):
        total, lost, wrong = careful(a, i, b, j)
        near = total + lost
        slack = 2.0**-52 * (abs(near) + (a.shape[1] + 1) * wrong)
        if wrong == 0.0:
            slack = 0.0
        value = f32(near + slack)
        if value != f32(near - slack):
            return f32(np.nan)
    return value


@native
def enter(
    i_of: NDArray[np.int32],
    j_of: NDArray[np.int32],
    keys_of: NDArray[np.uint32],
    found: int,
    i_slot: NDArray[np.int64],
    j_slot: NDArray[np.int64],
    i_row: NDArray[np.int64],
    j_row: NDArray[np.int64],
    sides: int,
    keys: Keys,
    count: NDArray[np.int64],
    worst: Keys,
    k: int,
    part: int,
    parts: int,
) -> None:
    """Enter pairs into the lists of their queries and, of two sides, of their candidates too, if they are good enough.

    keys_of (n,) : upper halves of the keys. keys (M, room), count (M,), worst (M,) : the lists, how long they are, and
    the last key that may still enter. A full list is cut to its k best. One of `parts` callers sees to a part of the
    slots.
    """
    room = keys.shape[1]
    for n in range(found):
        i, j = i_of[n], j_of[n]
        for side in range(sides):
            if side == 0:
                slot, row = i_slot[i], j_row[j]
            else:
                slot, row = j_slot[j], i_row[i]
            if (slot >> 6) % parts != part:
                continue
            key = (u64(keys_of[n]) << HALF) | u64(row)
            if key > worst[slot]:
                continue
            keys[slot, count[slot]] = key
            count[slot] += 1
            if count[slot] == room:
                worst[slot] = cut(keys[slot], room, k)
                count[slot] = k


@native
def cut(keys: Keys, n: int, k: int) -> np.uint64:
    """Bring the k smallest of keys[:n] to the front and return the largest of them (Hoare's quickselect)."""
    low, high, wanted = 0, n - 1, k - 1
    while low < high:
        pivot = keys[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while keys[i] < pivot:
                i += 1
            while keys[j] > pivot:
                j -= 1
            if i <= j:
                keys[i], keys[j] = keys[j], keys[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    largest: np.uint64 = keys[wanted]
    return largest
