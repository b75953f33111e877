"""Scenes from measured room responses and recorded noises."""

import soundfile
import torch

from speechbrain_wavjepa.augment import NoiseFolder, SceneMixer, SceneSampler
from speechbrain_wavjepa.augment.brir import RoomScene
from speechbrain_wavjepa.processing import resample


def read_responses(folder):
    """Read measured mono responses [1, R] at 16 kHz."""
    responses = []
    for path in sorted(folder.glob("*.wav")):
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        response = resample(torch.from_numpy(samples[:, :1]), rate, 16000)
        responses.append(response.T)
    return responses


def test_a_scene_with_measured_responses(test_data):
    responses = read_responses(test_data / "spatial" / "rirs")
    assert len(responses) == 4
    taps = max(response.shape[1] for response in responses)
    padded = torch.stack(
        [
            torch.nn.functional.pad(response, (0, taps - response.shape[1]))
            for response in responses
        ]
    )
    noises = NoiseFolder(test_data / "spatial" / "noise")
    sampler = SceneSampler(
        [RoomScene("measured", padded, {})], noises, snr_db=[10.0, 10.0]
    )
    parts = sampler(3, 80000, torch.Generator().manual_seed(0))
    assert parts.num_bad == 0
    torch.manual_seed(0)
    clips = torch.randn(3, 80000, 1)
    mixer = SceneMixer(channels=1)
    scenes = mixer(clips, parts)
    parts.noise = torch.zeros_like(parts.noise)
    reverberant = mixer(clips, parts)
    noise = scenes - reverberant
    for row, (start, stop) in enumerate(parts.noise_span.tolist()):
        ratio = (
            reverberant[row, start:stop].square().sum()
            / noise[row, start:stop].square().sum()
        )
        assert abs(10 * torch.log10(ratio).item() - 10) < 0.1
        # the room is heard: the clip and its scene are not the same
        assert (reverberant[row] - clips[row]).abs().max() > 0.1
