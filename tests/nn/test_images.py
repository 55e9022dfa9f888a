"""Convolution and pooling against PyTorch and against their contract, in every geometry."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from dbp.nn import conv2d
from dbp.nn.average_pool2d import AveragePool2D
from dbp.nn.block_convolution import BlockConvolution
from dbp.nn.conv2d import Conv2D, convolution_of
from dbp.nn.elementwise import Elementwise
from dbp.nn.global_average_pool2d import GlobalAveragePool2D
from dbp.nn.layer import Array, Backward, Layer, Views, Workspace
from dbp.nn.max_pool2d import MaxPool2D
from dbp.nn.mean_squared_error import MeanSquaredError
from dbp.nn.model import Model
from dbp.nn.parameters import Parameters
from dbp.nn.residual import Residual
from dbp.nn.sample_convolution import SampleConvolution
from dbp.testing import check_layer
from tests.closeness import assert_close

CASES: list[tuple[Layer, torch.nn.Module]] = [
    (Conv2D(filters=6), torch.nn.Conv2d(4, 6, 3)),
    (Conv2D(filters=6, kernel=(1, 1), bias=False), torch.nn.Conv2d(4, 6, 1, bias=False)),
    (
        Conv2D(filters=6, kernel=(3, 2), stride=(2, 1), padding=(1, 2), dilation=(2, 3)),
        torch.nn.Conv2d(4, 6, (3, 2), (2, 1), (1, 2), (2, 3)),
    ),
    (Conv2D(filters=6, padding=(1, 1), groups=2), torch.nn.Conv2d(4, 6, 3, 1, 1, 1, 2)),
    (Conv2D(filters=8, groups=4, stride=(3, 3)), torch.nn.Conv2d(4, 8, 3, 3, groups=4)),
    (Conv2D(filters=24, kernel=(3, 1), stride=2), torch.nn.Conv2d(4, 24, (3, 1), 2)),
    (Conv2D(filters=24, kernel=1, stride=3), torch.nn.Conv2d(4, 24, 1, 3)),
    (Conv2D(filters=2, kernel=1, padding=3, stride=5), torch.nn.Conv2d(4, 2, 1, 5, 3)),
    (Conv2D(filters=3, kernel=5, stride=(4, 5)), torch.nn.Conv2d(4, 3, 5, (4, 5))),
    (
        Conv2D(filters=25, kernel=3, stride=3, padding=4, dilation=3),
        torch.nn.Conv2d(4, 25, 3, 3, 4, 3),
    ),
    (MaxPool2D(), torch.nn.MaxPool2d(2)),
    (MaxPool2D(kernel=(4, 3)), torch.nn.MaxPool2d((4, 3))),
    (MaxPool2D(kernel=1), torch.nn.MaxPool2d(1)),
    (
        MaxPool2D(kernel=(3, 2), stride=(2, 1), padding=(1, 1)),
        torch.nn.MaxPool2d((3, 2), (2, 1), (1, 1)),
    ),
    (AveragePool2D(), torch.nn.AvgPool2d(2)),
    (
        AveragePool2D(kernel=(3, 2), stride=(1, 3), padding=(1, 1)),
        torch.nn.AvgPool2d((3, 2), (1, 3), (1, 1)),
    ),
    (
        GlobalAveragePool2D(),
        torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()),
    ),
]


@pytest.mark.parametrize(("layer", "module"), CASES, ids=[repr(layer) for layer, _ in CASES])
def test_a_layer_of_images_computes_what_torch_computes(
    layer: Layer, module: torch.nn.Module
) -> None:
    rng = np.random.default_rng(1)
    shapes = layer.parameter_shapes((4, 9, 8))
    parameters = Parameters.zeros(shapes, np.float64)
    parameters.vector[:] = rng.standard_normal(len(parameters))
    gradients = Parameters.zeros(shapes, np.float64)
    module = module.double()
    module.load_state_dict({n: torch.tensor(v) for n, v in parameters.views.items()})
    module.zero_grad()
    x = rng.standard_normal((5, 4, 9, 8))
    x_torch = torch.tensor(x, requires_grad=True)

    y, backward = layer.forward(parameters.views, x, Workspace(np.float64))
    y_torch: Any = module(x_torch)
    assert_close(y, y_torch.detach().numpy(), 1e-12)
    assert y.shape[1:] == layer.output_shape((4, 9, 8))
    dy = rng.standard_normal(y.shape)
    dx = backward(dy.copy(), gradients.views)
    y_torch.backward(torch.tensor(dy))

    assert x_torch.grad is not None
    assert dx is not None
    assert_close(dx, x_torch.grad, 1e-12)
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None
        assert_close(gradients[name], parameter.grad, 1e-12)


@pytest.mark.parametrize("kernel", [2, 3, (3, 2), (1, 4)])
def test_the_first_of_equal_elements_gets_the_gradient(kernel: Any) -> None:
    """After relu, equal elements are common; so are windows that are zero."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 3, (6, 4, 9, 8)).astype(float)
    x_torch = torch.tensor(x, requires_grad=True)

    y, backward = MaxPool2D(kernel=kernel).forward({}, x, Workspace(np.float64))
    dy = rng.standard_normal(y.shape)
    dx = backward(dy.copy(), {})
    torch.nn.MaxPool2d(kernel)(x_torch).backward(torch.tensor(dy))

    assert x_torch.grad is not None
    np.testing.assert_array_equal(dx, x_torch.grad)


class BroadcastGradient(Elementwise):
    """A layer of a plug-in that returns a dx that cannot be written."""

    def forward(
        self, parameters: Views, x: Array, workspace: Workspace
    ) -> tuple[Array, Backward]:
        return x, lambda dy, _: np.broadcast_to(dy[:, :1, :1, :1], dy.shape)


def test_max_pooling_overwrites_no_gradient_that_is_read_only() -> None:
    layers = (Conv2D(filters=1, padding=1), MaxPool2D(), BroadcastGradient())
    model = Model(layers, (1, 4, 4), dtype="float64", loss=MeanSquaredError())
    parameters = Parameters.zeros(model.tensor_shapes, np.float64)
    gradients = Parameters.zeros(model.parameter_shapes, np.float64)

    model.forward_backward(parameters, gradients, np.ones((2, 1, 4, 4)), np.ones((2, 1, 2, 2)))

    assert gradients["0.bias"] == -4.0


def use_only(monkeypatch: pytest.MonkeyPatch, way: type[Any], most: int) -> None:
    """Compute every convolution in this way, in blocks of at most so many samples."""

    def convolution_of(window: Any, groups: int, filters: int, shape: Any, item: int) -> Any:
        convolution = way(window, groups, filters, shape[1:], item)
        convolution.most = most
        return convolution

    monkeypatch.setattr(conv2d, "convolution_of", convolution_of)


@pytest.mark.parametrize("way", [BlockConvolution, SampleConvolution])
@pytest.mark.parametrize("most", [1, 3, 5])
@pytest.mark.parametrize(
    ("layer", "module"),
    [case for case in CASES if isinstance(case[0], Conv2D)],
    ids=[repr(layer) for layer, _ in CASES if isinstance(layer, Conv2D)],
)
def test_both_ways_to_convolve_compute_what_torch_computes_in_blocks_of_any_size(
    monkeypatch: pytest.MonkeyPatch,
    layer: Layer,
    module: torch.nn.Module,
    most: int,
    way: type[Any],
) -> None:
    use_only(monkeypatch, way, most)

    test_a_layer_of_images_computes_what_torch_computes(layer, module)


@pytest.mark.parametrize("lanes", [(), (slice(0, 1), slice(1, 1), slice(1, 5))])
@pytest.mark.parametrize("way", [BlockConvolution, SampleConvolution])
@pytest.mark.parametrize(
    "layer", [layer for layer, _ in CASES if isinstance(layer, Conv2D)], ids=repr
)
def test_copies_that_are_made_again_give_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, layer: Conv2D, way: type[Any], lanes: tuple[slice, ...]
) -> None:
    use_only(monkeypatch, way, 2)
    rng = np.random.default_rng(1)
    shapes = layer.parameter_shapes((4, 9, 8))
    parameters = Parameters.zeros(shapes, np.float32)
    parameters.vector[:] = rng.standard_normal(len(parameters))
    x = rng.standard_normal((5, 4, 9, 8)).astype("f4")
    dy = rng.standard_normal((5, *layer.output_shape((4, 9, 8)))).astype("f4")

    def results() -> list[bytes]:
        workspace = Workspace(np.float32)
        workspace.training = True
        found = []
        for lane in lanes or (slice(None),):
            gradients = Parameters.zeros(shapes, np.float32)
            y, backward = layer.forward(parameters.views, x[lane], workspace)
            dx = backward(dy[lane].copy(), gradients.views)
            assert dx is not None
            found += [y.tobytes(), dx.tobytes(), gradients.vector.tobytes()]
        return found

    kept = results()
    monkeypatch.setattr(conv2d, "KEPT_BYTES", 0)

    assert results() == kept


def memory_of(workspace: Workspace) -> int:
    """The bytes that a workspace holds."""
    return sum(array.nbytes for array in workspace._flat.values())


def test_a_convolution_of_many_large_images_keeps_no_copies_of_them() -> None:
    layer = Conv2D(filters=1, padding=1)
    x = np.zeros((16, 4, 64, 64), np.float32)  # its windows have 9.4 MB
    views = {n: np.zeros(s, "f4") for n, s in layer.parameter_shapes(x.shape[1:]).items()}
    workspace = Workspace(np.float32)
    workspace.training, workspace.lanes = True, (slice(0, 8), slice(8, 16))

    layer.forward_joint(views, x, workspace)

    assert layer.kept_bytes(x.shape[1:], (8, 8), 4) == 0
    assert memory_of(workspace) < 3 * 2**20


@pytest.mark.parametrize("training", [False, True])
def test_a_convolution_keeps_copies_in_training_only(*, training: bool) -> None:
    layer = Conv2D(filters=1, padding=1)
    x = np.zeros((128, 4, 16, 16), np.float32)
    views = {n: np.zeros(s, "f4") for n, s in layer.parameter_shapes(x.shape[1:]).items()}
    workspace = Workspace(np.float32)
    workspace.training = training

    layer.forward(views, x, workspace)

    kept = layer.kept_bytes(x.shape[1:], (128,), 4)
    assert kept > 1.5 * 2**20
    assert (memory_of(workspace) >= kept + 4 * 128 * 256) == training


def test_small_images_are_convolved_in_blocks_and_single_samples_are_not() -> None:
    window = Conv2D(filters=6, kernel=5)._window()

    ways = [
        type(convolution_of(window, 1, 6, (samples, 1, size, size), 4))
        for samples, size in ((7, 28), (6, 28), (7, 224))
    ]

    assert ways == [BlockConvolution, SampleConvolution, SampleConvolution]


@pytest.mark.parametrize(
    ("samples", "sizes"), [(0, []), (1, [1]), (3, [3]), (4, [2, 2]), (7, [2, 2, 3])]
)
def test_blocks_have_almost_equal_sizes(samples: int, sizes: list[int]) -> None:
    way = SampleConvolution(Conv2D(filters=6)._window(), 1, 6, (1, 9, 9), 8)
    way.most = 3

    blocks = way.blocks(samples)

    assert [block.stop - block.start for block in blocks] == sizes
    assert [i for block in blocks for i in range(samples)[block]] == list(range(samples))


@pytest.mark.parametrize("layer", [layer for layer, _ in CASES], ids=repr)
def test_a_layer_of_images_keeps_the_contract_in_any_geometry(layer: Layer) -> None:
    check_layer(layer, (4, 5, 7))


@pytest.mark.parametrize(
    ("layer", "shape", "words"),
    [
        (Conv2D(filters=2), (4,), r"needs samples of shape \(channels, height, width\)"),
        (Conv2D(filters=2), (1, 2, 9), "a window of 3 elements does not fit into 2"),
        (Conv2D(filters=2, dilation=(4, 1)), (1, 8, 9), "a window of 9 elements"),
        (Conv2D(filters=4, groups=4), (6, 8, 8), r"groups: must divide channels \(6\)"),
        (MaxPool2D(kernel=(4, 4)), (1, 3, 9), "does not fit"),
        (GlobalAveragePool2D(), (5,), "needs samples of shape"),
    ],
)
def test_a_window_that_does_not_fit_is_refused(
    layer: Layer, shape: tuple[int, ...], words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        Model([layer], shape, dtype="float64", loss=MeanSquaredError())


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"kernel": (0, 1)}, "kernel: must be one or two integers >= 1"),
        ({"stride": (1, 2, 3)}, "stride: must be one or two"),
        ({"padding": (-1, 0)}, "padding: must be one or two integers >= 0"),
    ],
)
def test_options_of_a_window_are_checked(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Conv2D(filters=2, **options)


def test_padding_beyond_half_the_window_is_refused() -> None:
    with pytest.raises(ValueError, match="padding: must be at most half the kernel"):
        MaxPool2D(padding=(2, 0))


def test_check_layer_runs_convolutions_of_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    backward = BlockConvolution.backward

    def counted(convolution: BlockConvolution, *arguments: Any) -> None:
        sizes.append(len(arguments[1]))
        backward(convolution, *arguments)

    monkeypatch.setattr(BlockConvolution, "backward", counted)
    check_layer(Conv2D(filters=2), (1, 5, 5))

    assert {7, 11, 18} <= set(sizes)


def test_a_residual_block_has_the_arithmetic_and_the_copies_of_its_convolutions() -> None:
    inner = Conv2D(filters=2, padding=1)
    block = Residual(layers=(inner, inner))

    assert set(block.arithmetic) == {"convolutions in blocks"}
    assert Residual(layers=(MaxPool2D(kernel=1),)).arithmetic == ()
    assert block.kept_bytes((2, 8, 8), (7, 8), 4) == 2 * inner.kept_bytes((2, 8, 8), (7, 8), 4)
    assert inner.kept_bytes((2, 8, 8), (7, 8), 4) > 0
