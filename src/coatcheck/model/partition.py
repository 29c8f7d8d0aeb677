"""The 256 partitions and their hash tags.

All keys of one partition carry its tag in braces, so they share one Cluster slot. The tag of partition p
hashes (CRC-16/XMODEM modulo 16384, Redis Cluster specification) to slot 64 * p: every contiguous division
of the slots among shards gets an even share of the partitions.
"""

from typing import Final

PARTITIONS: Final = 256
SLOT_DISTANCE: Final = 64

TAGS: Final = tuple(
    """
    06S 5n3 53t 2KV 0QO 69L 4DI 2hB 04s 7LQ 51T 0i4 0So 7oE 4Fi 2jb
    2VY 4zR 574 0oT 21E 4YF 74b 8EX 003 4xr akm 0mt 23e 5KG 6bk 8Gx
    5nw dhn 0kP 530 5Mc 25A 0HD 6dO 5lW 047 0ip 4e9 5OC 27a 0Jd 6fo
    5j7 02W 2OR 4cY 7ia 0UK 2lF 5Pl 4x6 00w 0m0 4ay 7kA 0Wk 2nf 4Bm
    0cY 6OR 42W 1j7 1Pl 6lF 4UK 3ia 0ay 4m0 40w 0x6 0Bm 6nf 4Wk 3kA
    130 4kP axO 1nw 2dO 4HD 65A 1Mc 0e9 4ip 447 1lW 2fo 4Jd 67a 1OC
    4oT 174 0zR 6VY bvs 34b 0YF 61E 4mt ekm 0xr 403 aD0 2bk 1KG 63e
    6KV 13t 1n3 46S 6hB 0DI 29L 4QO 4i4 11T 3LQ 44s 6jb 0Fi 3oE 4So
    8YG 5L7 4EY 1Y1 07C 7Oa 4fM 2JF 265 7nU 4Gy 0K0 05c 7MA 4dm 2Hf
    20U 4XV 5Q8 0MP 2WI 5kc 6BO 0nD 22u 4Zv 4C9 0Op 2Ui 4yb 7PN 0ld
    5Ls 24Q 0IT 71v 5og 2SM 1za 6FK 5NS 26q 0Kt 73V 49n 2Qm 1xA 6Dk
    5H3 1Dz 2mV 756 7Ke 03G 2NB 4bI 4Z2 1FZ 0O4 byN 6Yd 01g 2Lb 5pH
    356 6mV 5Dz 1H3 0bI 6NB 43G 3Ke 8Je 4O4 5FZ 0Z2 1pH 6Lb 41g 2Yd
    31v 4IT 64Q 1Ls 2FK 5za 6SM 1og 33V 4Kt 66q 1NS 2Dk 5xA 6Qm 09n
    4MP 1Q8 0XV 60U 4nD 2BO 1kc 6WI 4Op 0C9 0Zv 62u 4ld 3PN 0yb 6Ui
    5Y1 0EY 1L7 bjl 6JF 0fM 3Oa 47C 4K0 0Gy 3nU 665 6Hf 0dm 3MA 45c
    """.split()  # noqa: SIM905  256 quoted words would fill pages
)
