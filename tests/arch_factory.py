"""Tiny trees of files in the published layouts of ARCH's data sets."""

import json
import uuid

import numpy as np
import soundfile


def write_clip(path, number=0, rate=16000, channels=1, seconds=0.1):
    """Write a tone; the number decides its frequency."""
    path.parent.mkdir(parents=True, exist_ok=True)
    times = np.arange(round(seconds * rate)) / rate
    tone = 0.3 * np.sin(2 * np.pi * (300 + 900 * number) * times)
    tone += 0.01 * np.random.default_rng(number).standard_normal(len(times))
    soundfile.write(path, np.repeat(tone[:, None], channels, 1), rate)


def write_text(path, lines):
    """Write lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_esc50(folder, folds=5, per_fold=8):
    """Two classes in each fold."""
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, folds + 1):
        for number in range(per_fold):
            name, target = f"{fold}-{number}-A-{number % 2}.wav", number % 2
            lines.append(f"{name},{fold},{target},{'ab'[target]},True,1,A")
            write_clip(folder / "audio" / name, target, 44100)
    write_text(folder / "meta" / "esc50.csv", lines)


def write_us8k(folder):
    """Ten folds; fold 5 comes first in the table."""
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in (5, 1, 2, 3, 4, 6, 7, 8, 9, 10):
        for number in range(2):
            name = f"{fold}-{number}.wav"
            lines.append(f"{name},1,0,1,1,{fold},{number},{'ab'[number]}")
            write_clip(folder / "audio" / f"fold{fold}" / name, number)
    write_text(folder / "metadata" / "UrbanSound8K.csv", lines)


def write_fsd50k(folder):
    """Six clips to develop, two to evaluate."""
    dev = ["fname,labels,mids,split"]
    for number in range(6):
        labels = ("Bark,Animal", "Music", "Animal")[number % 3]
        split = "val" if number > 3 else "train"
        dev.append(f'{number},"{labels}",/m/1,{split}')
        write_clip(folder / "FSD50K.dev_audio" / f"{number}.wav", number % 3)
    evaluation = ["fname,labels,mids", '10,"Bark,Animal",/m/1', "11,Music,/m/2"]
    for number in (10, 11):
        write_clip(folder / "FSD50K.eval_audio" / f"{number}.wav", number - 10)
    write_text(folder / "FSD50K.ground_truth" / "dev.csv", dev)
    write_text(folder / "FSD50K.ground_truth" / "eval.csv", evaluation)


def write_vivae(folder):
    """Eleven speakers, two emotions."""
    for speaker in range(1, 12):
        for number, emotion in enumerate(("anger", "fear")):
            name = f"S{speaker:02d}_{emotion}_low_01.wav"
            write_clip(folder / "full_set" / name, number)


def write_fma_small(folder, tracks=(2, 5, 10, 140, 1200, 10250, 20000, 100000)):
    """Eight clips, a row without a genre, one of another subset, one gone."""
    lines = [",album,set,track", ",comments,subset,genre_top", "track_id,,,"]
    for number, track in enumerate(tracks):
        lines.append(f"{track},0,small,{('Rock', 'Folk')[number % 2]}")
        name = f"{track:06d}"
        path = folder / "fma_small" / name[:3] / f"{name}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        clip = np.random.default_rng(number).standard_normal(4410) / 10
        soundfile.write(path, clip, 44100, format="MP3")
    lines += ["7,0,small,", "8,0,large,Jazz", "9,0,small,Rock"]
    write_text(folder / "fma_metadata" / "tracks.csv", lines)


def write_magna_tag_a_tune(folder, tags):
    """Six clips, the last without a tag."""
    lines = ["\t".join(["clip_id", *tags, "mp3_path"])]
    for number in range(6):
        row = ["0"] * len(tags)
        if number < 5:
            row[number] = row[number + 1] = "1"
        lines.append("\t".join([str(number), *row, f"f/clip-{number}.mp3"]))
    write_text(folder / "annotations_final.csv", lines)
    parts = {"train": "012", "val": "3", "test": "45"}
    for part, clips in parts.items():
        rows = [f"{clip}\t[1, 0]" for clip in clips]
        write_text(folder / f"{part}_gt_mtt.tsv", rows)


def write_irmas(
    folder, labels, inner=("Part1", "IRTestingData-Part2", "Part3")
):
    """Two clips to train on of each instrument, two to test of each part."""
    for number, label in enumerate(labels):
        for take in range(2):
            name = f"{label}__{take}.wav"
            write_clip(folder / "IRMAS-TrainingData" / label / name, number)
    for part, name in enumerate(inner, 1):
        place = folder / f"IRMAS-TestingData-Part{part}" / name
        for take in range(2):
            write_clip(place / f"{take}.wav", channels=2)
            write_text(place / f"{take}.txt", ["gel\t", "voi\t"])


def write_medleydb(folder):
    """Two clips of each subset."""
    lines = ["subset,instrument,instrument_id,song_id,uuid4"]
    for subset in ("training", "validation", "test"):
        for number in range(2):
            name = str(uuid.UUID(int=len(lines)))
            lines.append(f"{subset},flute,{number},1,{name}")
            file = f"Medley-solos-DB_{subset}-{number}_{name}.wav"
            write_clip(folder / "audio" / file, number)
    write_text(folder / "Medley-solos-DB_metadata.csv", lines)


def write_ravdess(folder):
    """Two actors with all emotions."""
    for actor in (1, 2):
        for emotion in range(1, 9):
            name = f"03-01-{emotion:02d}-01-01-01-{actor:02d}.wav"
            write_clip(folder / f"Actor_{actor:02d}" / name, emotion)


def write_audio_mnist(folder):
    """Two digits of one speaker of each fold."""
    for speaker in (12, 26, 28, 36, 43):
        for digit in (0, 7):
            name = f"{digit}_{speaker}_0.wav"
            write_clip(folder / "data" / str(speaker) / name, digit, 48000)


def write_slurp(folder):
    """Two intents; a sentence has two recordings."""
    for list_number, name in enumerate(("train", "devel", "test")):
        lines = []
        for number, intent in enumerate(("play_music", "alarm_set")):
            files = [f"{name}-{number}-{take}.flac" for take in range(2)]
            for file in files:
                write_clip(folder / "slurp_real" / file, list_number)
            recordings = [{"file": file, "wer": 0} for file in files]
            lines.append(
                json.dumps({"intent": intent, "recordings": recordings})
            )
        write_text(folder / f"{name}.jsonl", lines)


def write_emovo(folder):
    """Six speakers, two emotions."""
    for speaker in ("f1", "f2", "f3", "m1", "m2", "m3"):
        for number, emotion in enumerate(("dis", "tri")):
            name = f"{emotion}-{speaker}-b1.wav"
            write_clip(folder / "EMOVO" / speaker / name, number)
