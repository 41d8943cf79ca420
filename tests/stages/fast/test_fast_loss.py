"""The loss of Fast R-CNN against torchvision's on the same tensors, gradients too, and by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import fastrcnn_loss

from stages.fast.loss import fast_loss


@given(st.integers(0, 10**6), st.sampled_from([(1, 4), (7, 1), (40, 20)]), st.booleans())
@settings(deadline=None, max_examples=30)
def test_as_torchvision_with_its_knee(seed: int, shape: tuple[int, int], any_foreground: bool) -> None:
    n, n_classes = shape
    drawn = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, n_classes + 1, (n,), generator=drawn) * int(any_foreground)
    logits, by_class = (torch.randn(n, width, generator=drawn) for width in (n_classes + 1, 4 * n_classes))
    targets = torch.randn(n, 4, generator=drawn)

    ours = [logits.clone().requires_grad_(), by_class.clone().requires_grad_()]
    terms = fast_loss(ours[0], ours[1].unflatten(1, (n_classes, 4)), labels, targets, sigma=3)
    theirs = [logits.clone().requires_grad_(), torch.cat([torch.zeros(n, 4), by_class], 1).requires_grad_()]
    expected = fastrcnn_loss(*theirs, [labels], [targets])  # it has four outputs for background, too
    torch.testing.assert_close([terms["cls"], terms["box"]], list(expected), rtol=1e-5, atol=1e-6)

    found = torch.autograd.grad(terms["cls"] + terms["box"], ours)
    wanted = torch.autograd.grad(sum(expected), theirs)
    torch.testing.assert_close(found[0], wanted[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[1], wanted[1][:, 4:], rtol=1e-5, atol=1e-6)
    assert not wanted[1][:, :4].any()  # which learn nothing there


def test_by_hand_with_the_papers_knee() -> None:
    logits = torch.zeros(4, 3)
    transforms = torch.zeros(4, 2, 4)
    transforms[1, 1] = torch.tensor([0.5, -2.0, 0.0, 1.0])  # class 1 of a RoI of class 1
    transforms[1, 0] = 100.0  # another class's
    transforms[0] = 100.0  # a background RoI's
    labels, targets = torch.tensor([0, 2, 0, 1]), torch.zeros(4, 4)
    targets[0] = math.nan  # nothing reads it
    targets[3] = torch.tensor([3.0, 0.0, 0.0, 0.0])
    terms = fast_loss(logits, transforms, labels, targets)
    assert terms["cls"].item() == pytest.approx(math.log(3))
    # 0.5 * 0.25 + (2 - 0.5) + 0 + 0.5 * 1, and 3 - 0.5, over all four RoIs
    assert terms["box"].item() == pytest.approx((0.125 + 1.5 + 0.5 + 2.5) / 4)


def test_no_roi_and_no_foreground_cost_nothing_and_have_gradients() -> None:
    for n in (0, 3):
        logits, transforms = torch.zeros(n, 3, requires_grad=True), torch.zeros(n, 2, 4, requires_grad=True)
        terms = fast_loss(logits, transforms, torch.zeros(n, dtype=torch.int64), torch.zeros(n, 4))
        assert terms["box"].item() == 0 and (terms["cls"].item() == 0) == (n == 0)
        gradient = torch.autograd.grad(terms["cls"] + terms["box"], [logits, transforms])
        assert not gradient[1].any() and gradient[0].any() == (n > 0)
