"""What synthetic people wear on their shoulders: skin of the neck, collars, cloth."""

from __future__ import annotations

import numpy as np

from data.synthetic.maths import bump, mix, smooth_noise, smoothstep
from data.synthetic.paint import Canvas, Paint, skin_colour
from data.synthetic.person import Identity
from data.synthetic.scene import Scene
from util.seed import generator_for


def paint_neck(who: Identity, scene: Scene, canvas: Canvas) -> Paint:
    """Skin above the collar, cloth below it."""
    rng = generator_for(scene.seed, 111)
    x, y = canvas.position[..., 0], canvas.position[..., 1]
    ax = np.abs(x)
    skin = skin_colour(who) * (0.97 + 0.02 * smooth_noise(rng, canvas.shape, (14, 14))[..., None])
    depth = y - (137 + 6 * bump(ax, 0, 30))
    weave = smooth_noise(rng, canvas.shape, (40, 60), 2)
    folds = smooth_noise(rng, canvas.shape, (5, 9), 2)
    cloth = np.array(scene.clothes_bgr) * (1 + 0.03 * weave + 0.05 * folds)[..., None]
    cover = smoothstep(-0.8, 0.8, depth)
    colour = mix(skin, cloth, cover)
    return Paint(colour, np.zeros(canvas.shape), 0.05 * (1 - cover), cover * (0.5 * folds))
