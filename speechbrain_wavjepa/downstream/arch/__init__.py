"""The twelve data sets of the ARCH benchmark and its protocol.

Source: ARCH (https://github.com/MorenoLaQuatra/ARCH,
https://arxiv.org/abs/2405.00934).

Authors
 * The speechbrain_wavjepa developers 2026
"""
