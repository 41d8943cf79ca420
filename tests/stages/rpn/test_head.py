"""The head against torchvision's, its order against the anchors', its size and its first weights."""

import numpy as np
import pytest
import torch
from torchvision.models.detection.rpn import RPNHead, concat_box_prediction_layers

from stages.rpn.head import Objectness, RpnHead, margins


def made(objectness: Objectness, in_channels: int = 8, n_anchors: int = 6, channels: int = 16) -> RpnHead:
    return RpnHead(in_channels, n_anchors, channels, objectness, generator=torch.Generator().manual_seed(0))


def test_vggs_has_as_many_weights_as_the_paper_says() -> None:
    assert sum(p.numel() for p in RpnHead(512, 9).parameters()) == 2_387_510
    assert sum(p.numel() for p in RpnHead(512, 9, objectness="logistic").parameters()) == 2_387_510 - 9 * 513


def test_as_torchvision() -> None:
    ours, theirs = made("logistic"), RPNHead(8, 6)
    theirs.conv[0][0] = ours.conv
    theirs.cls_logits, theirs.bbox_pred = ours.score, ours.box
    features = torch.randn(3, 8, 5, 7, generator=torch.Generator().manual_seed(1))
    for form in (torch.contiguous_format, torch.channels_last):
        logits, deltas = ours(features.to(memory_format=form))
        raw = theirs([features])
        expected = concat_box_prediction_layers(*raw)
        torch.testing.assert_close(logits.flatten(), expected[0].flatten())
        torch.testing.assert_close(deltas.reshape(-1, 4), expected[1])
        assert logits.shape == (3, 5 * 7 * 6) and deltas.shape == (3, 5 * 7 * 6, 4)


@pytest.mark.parametrize("objectness", ["softmax", "logistic"])
def test_the_order_is_the_anchors(objectness: Objectness) -> None:
    """Cell (y, x), anchor a: the authors' channels a (background) and A + a (object), or a; 4 a to 4 a + 3."""
    head = made(objectness)
    features = torch.randn(1, 8, 3, 4, generator=torch.Generator().manual_seed(1))
    hidden = torch.relu(head.conv(features))
    scores, boxes = head.score(hidden)[0], head.box(hidden)[0]
    logits, deltas = (out[0].detach() for out in head(features))
    for y in range(3):
        for x in range(4):
            for a in range(6):
                row = (y * 4 + x) * 6 + a
                torch.testing.assert_close(deltas[row], boxes[4 * a : 4 * a + 4, y, x])
                wanted = scores[[a, 6 + a], y, x] if objectness == "softmax" else scores[a, y, x]
                torch.testing.assert_close(logits[row], wanted)


def test_margins_are_the_logits_of_the_probability() -> None:
    logits = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(margins(logits).sigmoid(), logits.softmax(1)[:, 1])
    assert margins(logits[:, 0]) is not None and torch.equal(margins(logits[:, 0]), logits[:, 0])


def test_first_weights_are_drawn_from_the_generator() -> None:
    head, again = made("softmax", 64, 9, 256), made("softmax", 64, 9, 256)
    state = torch.get_rng_state()
    for name, value in head.state_dict().items():
        torch.testing.assert_close(value, again.state_dict()[name], rtol=0, atol=0)
        if name.endswith("bias"):
            assert not value.any()
        else:
            assert value.std().item() == pytest.approx(0.01, rel=0.05) and abs(value.mean().item()) < 1e-3
    RpnHead(8, 6)
    assert torch.equal(torch.get_rng_state(), state)  # a head to be filled draws nothing


def test_a_folded_head_answers_plain_transforms() -> None:
    head = made("softmax")
    features = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(1))
    logits, standard = (out.detach() for out in head(features))
    mean, std = np.array([0.1, -0.2, 0.3, 1.0]), np.array([0.2, 0.5, 2.0, 3.0])
    head.fold(torch.from_numpy(mean), torch.from_numpy(std))
    again, plain = head(features)
    torch.testing.assert_close(plain.double(), standard.double() * torch.from_numpy(std) + torch.from_numpy(mean))
    torch.testing.assert_close(again, logits)
