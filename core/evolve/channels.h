/* Steps by channel: each channel of an activation gets the range of codes that suits its own values. The requantiser
 * that makes it has a multiplier and an offset a channel, and the weights that read it take the rest, so that the
 * network that runs is of the same form. After cross-layer equalisation (Nagel, van Baalen, Blankevoort, Welling,
 * "Data-Free Quantization Through Weight Equalization and Bias Correction", 2019, section 4.1), with ranges of least
 * squared error in place of largest values. */
#ifndef QE_EVOLVE_CHANNELS_H
#define QE_EVOLVE_CHANNELS_H

#include "core/evolve/guided.h"
#include "core/evolve/requantiser.h"

typedef struct qe_channels {
  int32_t layers;
  qe_gain *
      *ratio; /* [layers] of tensors: [C], what a code of the channel is worth beside what it was; NULL: the same */
} qe_channels;

QE_CHECKED qe_status qe_channels_new(const qe_network *network, qe_channels *channels);
void qe_channels_free(qe_channels *channels); /* of zeros is fine */
/* When the walk is done: tensors with steps by channel have no one unit any more. */
void qe_channels_end(const qe_channels *channels, qe_network *network);

/* At requantiser `at`, its branches made and itself not run yet: steps for the channels of its output, `strength` / 8
 * of the way, in octaves, from the common one to each one's best, where a convolution with a teacher reads the output,
 * as it is or on a coarser grid. Requantisers that read it are changed; convolutions wait for qe_channels_weigh. */
QE_CHECKED qe_status qe_channels_choose(qe_channels *channels, qe_guided *walk, int32_t at, int32_t strength);

/* At the place of a convolution whose input's steps have changed: its codes are made anew from the teacher's, and the
 * gains of its branch with them. Nothing where they have not. */
QE_CHECKED qe_status qe_channels_weigh(const qe_channels *channels, qe_guided *walk, const qe_guided_place *place);

#endif
