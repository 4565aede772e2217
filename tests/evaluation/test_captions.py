"""Captions say what each front end computes and reads."""

import pytest

from speechmlp.config.schema import AlignedConfig, LogMelConfig, MFCCConfig, RawConfig
from speechmlp.evaluation.captions import FrontEndConfig, saliency_caption, sheet_caption, spectrogram_caption


@pytest.mark.parametrize(
    ("config", "said", "not_said"),
    [
        (RawConfig(), ["the model does not see it", "reads the samples"], ["lines", "coefficients"]),
        (LogMelConfig(n_mels=32, hop_length=320), ["32 mel bands every 20 ms", "whole second"], ["lines"]),
        (MFCCConfig(n_mfcc=12), ["40 mel bands every 10 ms", "12 cepstral coefficients"], ["lines"]),
        (
            AlignedConfig(warped=20, onset=6, offset=5),
            ["white by energy, cyan by the endpoint network", "20 frames spread", "6 around its start", "5 around its"],
            ["whole second", "raised"],
        ),
        (AlignedConfig(endpoints="energy", onset=0, offset=0), ["(white by energy)"], ["network", "around its"]),
        (
            AlignedConfig(endpoints="learnt", emphasis=12),
            ["(white by the endpoint network)", "12 dB"],
            ["energy", "cyan"],
        ),
    ],
)
def test_the_caption_of_a_spectrogram_fits_the_front_end(
    config: FrontEndConfig, said: list[str], not_said: list[str]
) -> None:
    caption = spectrogram_caption(config)
    assert all(text in caption for text in said), caption
    assert not any(text in caption for text in not_said), caption


def test_the_time_axis_of_saliency_is_what_the_front_end_reads() -> None:
    assert "the whole second" in saliency_caption(LogMelConfig())
    assert "coefficients come from" in saliency_caption(MFCCConfig())
    for endpoints, how in (("both", "by energy"), ("energy", "by energy"), ("learnt", "by the endpoint network")):
        config = AlignedConfig.model_validate({"endpoints": endpoints})
        assert f"the letter as found {how}" in saliency_caption(config)


def test_the_sheet_says_if_the_model_does_not_see_its_pictures() -> None:
    assert "the model does not see them" in sheet_caption(RawConfig())
    caption = sheet_caption(AlignedConfig(n_mels=64))
    assert "64 mel bands every 10 ms" in caption
    assert "does not see" not in caption
