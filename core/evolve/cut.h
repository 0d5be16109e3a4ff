/* A network cut behind one of its layers: what must be kept of an image there, and the network from there on, whose
 * "images" are these codes. So any engine evaluates the rest for many variants of one tensor. */
#ifndef QE_EVOLVE_CUT_H
#define QE_EVOLVE_CUT_H

#include "core/dispatch/network.h"

enum { QE_CUT_TENSORS = 4 };

typedef struct qe_cut {
  int32_t tensors;                /* kept: the cut layer's own first, then others that the rest reads */
  int32_t tensor[QE_CUT_TENSORS]; /* their numbers in the whole network */
  qe_desc desc;                   /* u8 [1, 1, H, W, C]: of an "image", the tensors' channels one after the other */
  qe_network *rest;               /* sound and proven */
} qe_cut;

/* Behind layer `at`, a requantiser to u8 codes. QE_REFUSED where the rest also reads tensors that are no u8 codes or of
 * another height or width, or too many of them. */
QE_CHECKED qe_status qe_cut_new(const qe_network *network, int32_t at, qe_cut *cut);
void qe_cut_free(qe_cut *cut); /* of zeros is fine */

/* Put the codes of `images` images of one kept tensor, [images, H, W, its channels], to their places in `to`
 * [images, H, W, C]. */
void qe_cut_join(const qe_cut *cut, const qe_network *network, int which, const uint8_t *codes, int64_t images,
                 uint8_t *to);

#endif
