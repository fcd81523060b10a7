"""`python -m tests.benchmarks.scenes`: how many scenes are drawn in a second on one core, captions
included, by the processor's clock, so that other programs don't count."""

import time

import torch

from cfd_course.datasets.shapes import sample_scenes

if __name__ == "__main__":
    torch.set_num_threads(1)
    seconds = []
    for _ in range(5):
        began = time.process_time()
        scenes = sample_scenes(1_000)
        scenes.draw()
        scenes.captions()
        seconds.append(time.process_time() - began)
    print(f"{1_000 / min(seconds):,.0f} scenes a second")
