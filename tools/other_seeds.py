"""Start a kernel in which each seed is replaced by another; no notebook is edited for it.

IPython runs the file that PYTHONSTARTUP names before the first cell. From then on
`torch.manual_seed(s)` and a generator's `manual_seed(s)` seed with s + SEED_OFFSET.
"""


def _install() -> None:
    import os

    import torch

    offset = int(os.environ.get("SEED_OFFSET", "0"))
    if not offset:
        return
    seed_all, generator = torch.manual_seed, torch.Generator

    class Generator(generator):
        def manual_seed(self, seed):
            # torch takes seeds below 2**64.
            super().manual_seed((int(seed) + offset) % 2**63)
            return self

    def manual_seed(seed):
        return seed_all((int(seed) + offset) % 2**63)

    torch.manual_seed = torch.random.manual_seed = manual_seed
    torch.Generator = Generator


_install()
del _install
