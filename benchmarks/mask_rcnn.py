"""Our Mask R-CNN against torchvision's `maskrcnn_resnet50_fpn` with the same weights: detections, time and memory.

    python benchmarks/mask_rcnn.py                      # all three tables
    python benchmarks/mask_rcnn.py --tables time        # one of them: time, memory, learning

time      ms a picture, in turns in one process, the median of pairwise ratios (ours / theirs), and whether the
          detections are the same: scores, classes, boxes and the masks' values in their boxes. "as theirs" resizes as
          torchvision does by default, to 800 pixels at most 1333; "own size" is our default, which does not resize.
memory    peak resident memory above that of the loaded model, in a process of its own each, for a 4000 x 4000 picture
          with 400 detections: theirs lays each on a whole picture of 32 bits a pixel, ours on the pixels of its box.
learning  drawn scenes of touching pieces, learnt by heart: objects found again (IoU >= 0.5) and losses, from nothing.

The weights are torchvision's architecture's with random values (those of COCO can't always be fetched, and time and
memory do not depend on them); `--weights` takes a file with trained ones. The least score is set low enough for 100
detections a picture, as many as a crowded one has, so that the mask head works as hard as it ever does.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

LARGE, CROWD = 4000, 400


def same_weights(path: Path | None, detections: int, **sides: int) -> tuple[Any, Any]:
    """torchvision's model and ours, with the same weights, for as many detections at most."""
    import torch
    from torch import nn
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    from intarsia.models.instance.mask_rcnn import MaskRCNN
    from intarsia.models.weights import load_torchvision, mask_rcnn_config

    torch.manual_seed(0)
    theirs = maskrcnn_resnet50_fpn(
        weights=None, weights_backbone=None, box_detections_per_img=detections, box_score_thresh=0.02, **sides
    )
    if path:
        theirs.load_state_dict(torch.load(path, weights_only=True))
    else:  # statistics of pictures, and scores that are neither all alike nor all 1
        for module in theirs.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        with torch.no_grad():
            theirs.backbone.train()(torch.randn(2, 3, 128, 128))
            theirs.roi_heads.box_predictor.cls_score.weight.mul_(0.3)
    told = {"least_score": 0.02, "detections": detections}
    config = mask_rcnn_config("maskrcnn_resnet50_fpn").model_copy(update=told)
    if sides:
        config = config.model_copy(update={"shorter_side": sides["min_size"], "longer_side": sides["max_size"]})
    ours = MaskRCNN(config)
    load_torchvision(ours, theirs.state_dict())
    return theirs.eval(), ours.eval()


def picture(height: int, width: int) -> Any:
    """(1, 3, H, W) float32 in [0, 1]: a drawn scene."""
    from intarsia.data.batches import collate
    from intarsia.data.scenes import SceneConfig, draw_scene

    return collate([draw_scene(SceneConfig(height, width, objects=(30, 40)), 0)]).images.contiguous()


def alike(theirs: Any, ours: Any, image: Any) -> str:
    """Whether both detect the same, and by how much they differ at most."""
    import torch

    raw: list[Any] = []
    finish = theirs.transform.postprocess

    def looked_at(result: Any, *sizes: Any) -> Any:
        raw.extend(each["masks"] for each in result)  # before they are laid on pixels
        return finish(result, *sizes)

    theirs.transform.postprocess = looked_at
    with torch.inference_mode():
        expected = theirs(list(image))[0]
        boxes, scores, classes, masks = (each[0] for each in ours(image))
    theirs.transform.postprocess = finish
    count = len(expected["boxes"])
    if count == 0 or count != int((scores > 0).sum()):
        return f"no: {count} and {int((scores > 0).sum())} of them"
    # two whose scores differ by rounding alone may have changed places: each is compared with the nearest of ours
    near = (expected["boxes"][:, None] - boxes[None, :count]).abs().amax(dim=2)
    near = near + 1e4 * (expected["labels"][:, None] != classes[None, :count])
    which = near.argmin(dim=1)
    box = float(near.amin(dim=1).max())
    score = float((expected["scores"] - scores[which]).abs().max())
    mask = float((raw[0][:, 0] - masks[which]).abs().max())
    verdict = "yes" if len(set(which.tolist())) == count and box < 0.1 and score < 1e-3 and mask < 0.05 else "no"
    return f"{verdict}: {count}, apart by {box:.0e} px, {score:.0e}, {mask:.0e}"


def time_table(path: Path | None, rounds: int, size: tuple[int, int], small: bool) -> None:
    import torch

    sides = {"min_size": 160, "max_size": 320} if small else {}
    theirs, ours = same_weights(path, 100, **sides)
    ours = ours.to(memory_format=torch.channels_last)
    native = same_weights(path, 100, **sides)[1].to(memory_format=torch.channels_last)
    native.config = native.config.model_copy(update={"shorter_side": None, "longer_side": None})
    image = picture(*size)
    runs = {
        "torchvision": lambda: theirs(list(image)),
        "ours, as theirs": lambda: ours.answers(image),
        "ours, own size": lambda: native.answers(image),
    }
    times: dict[str, list[float]] = {name: [] for name in runs}
    found = alike(theirs, ours, image)
    with torch.inference_mode():
        for turn in range(rounds + 1):  # the first warms up
            for name, run in runs.items():
                begin = time.perf_counter()
                run()
                if turn:
                    times[name].append(1000 * (time.perf_counter() - begin))
    print(f"\n{size[0]} x {size[1]} pixels, {torch.get_num_threads()} threads, {rounds} rounds")
    print(f"{'':<18}{'ms':>9}{'min':>9}{'ratio':>8}   same detections (number, boxes, scores, mask values)")
    for name, values in times.items():
        ratio = statistics.median(mine / its for mine, its in zip(values, times["torchvision"], strict=True))
        say = found if name == "ours, as theirs" else ""
        print(f"{name:<18}{statistics.median(values):9.0f}{min(values):9.0f}{ratio:8.2f}   {say}")


def resident(name: str) -> float:
    """MiB of resident memory, of Linux's own account: VmRSS now, VmHWM at most since it was reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(name))


def memory_of(which: str, path: Path | None, side: int, count: int) -> dict[str, float]:
    """MiB above the loaded model, and the number of detections, of one kind of model."""
    import torch

    from intarsia.models.instance.mask_rcnn import MaskRCNN, MaskRCNNConfig

    if which == "ours, small, own size":
        model: Any = MaskRCNN(MaskRCNNConfig(classes=2, least_score=0.0, detections=count)).eval()
    else:
        theirs, ours = same_weights(path, count)
        theirs.roi_heads.score_thresh = 0.0
        ours.config = ours.config.model_copy(update={"least_score": 0.0})
        model = theirs if which == "torchvision" else ours
    image = torch.rand(1, 3, side, side)
    Path("/proc/self/clear_refs").write_text("5")  # what the models took while they were made does not count
    before = resident("VmRSS")
    with torch.inference_mode():
        found = model(list(image))[0]["boxes"] if which == "torchvision" else model.answers(image)[0].boxes
    return {"MiB": resident("VmHWM") - before, "detections": len(found)}


def memory_table(path: Path | None, side: int, count: int) -> None:
    print(f"\n{side} x {side} pixels, {count} detections at most: peak memory above the loaded model")
    for which in ("ours, as theirs", "ours, small, own size", "torchvision"):
        command = [sys.executable, __file__, "--one", which, "--side", str(side), "--count", str(count)]
        done = subprocess.run([*command, *(["--weights", str(path)] if path else [])], capture_output=True, text=True)
        if done.returncode:
            print(f"{which:<24} ended with {done.returncode} (killed for its memory where negative)")
            continue
        told = json.loads(done.stdout.splitlines()[-1])
        print(f"{which:<24}{told['MiB']:9.0f} MiB, {told['detections']} detections")


def learning_table(steps: int, size: int, pictures: int) -> None:
    import torch

    from intarsia.data.batches import collate
    from intarsia.data.scenes import SceneConfig, draw_scene
    from intarsia.metrics.matching import matched, overlaps
    from intarsia.models.instance.anchors import fit_anchors
    from intarsia.models.instance.boxes import boxes_of
    from intarsia.models.instance.mask_rcnn import MaskRCNN, MaskRCNNConfig

    torch.manual_seed(0)
    samples = [draw_scene(SceneConfig(size, size), index) for index in range(pictures)]
    batch = collate(samples)
    assert batch.objects is not None
    of_pictures = zip(batch.objects, batch.object_classes, strict=True)
    boxes = torch.cat([boxes_of(each, len(kinds)) for each, kinds in of_pictures])
    anchors = fit_anchors((boxes[:, 2:] - boxes[:, :2]).flip(1).numpy())
    model = MaskRCNN(MaskRCNNConfig(classes=5, anchor_sizes=anchors.sizes, anchor_ratios=anchors.ratios))
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    begin = time.perf_counter()
    first = 0.0
    for step in range(steps):
        terms = model.train().loss(batch)
        optimizer.zero_grad()
        terms["total"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        first = first if step else float(terms["total"])
    seconds = time.perf_counter() - begin
    found = model.eval().predict(batch.images)
    pairs = [(s.instances.label_image, f.label_image) for s, f in zip(samples, found, strict=True) if s.instances]
    hits = sum(len(matched(overlaps(true, its), 0.5)) for true, its in pairs)
    print(f"\n{pictures} scenes of {size} x {size}, {steps} steps in {seconds:.0f} s (AdamW 1e-3, from nothing)")
    invented = sum(len(each) for each in found) - hits
    print(f"loss {first:.2f} -> {float(terms['total']):.2f}; found {hits} of {len(boxes)} objects, {invented} invented")
    print(f"anchors {anchors.sizes}, ratios {anchors.ratios}, mean IoU with the objects {anchors.iou:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", nargs="+", default=["time", "memory", "learning"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height and width of the timed picture")
    parser.add_argument("--small", action="store_true", help="resize to 160 pixels, not 800: to try the table quickly")
    parser.add_argument("--weights", type=Path, help="a state dict of torchvision's maskrcnn_resnet50_fpn")
    parser.add_argument("--side", type=int, default=LARGE, help="of the memory table's picture")
    parser.add_argument("--count", type=int, default=CROWD, help="its detections")
    parser.add_argument("--steps", type=int, default=200, help="of the learning table")
    parser.add_argument("--threads", type=int, help="of torch; default: all")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.threads:
        import torch

        torch.set_num_threads(options.threads)
    if options.one:
        print(json.dumps(memory_of(options.one, options.weights, options.side, options.count)))
        return
    if "time" in options.tables:
        time_table(options.weights, options.rounds, tuple(options.size), options.small)
    if "memory" in options.tables:
        memory_table(options.weights, options.side, options.count)
    if "learning" in options.tables:
        learning_table(options.steps, 96, 4)


if __name__ == "__main__":
    main()
