"""WavJEPA and WavJEPA-Nat for SpeechBrain.

Authors
 * The speechbrain_wavjepa developers 2026
"""

__version__ = "0.1.0"
