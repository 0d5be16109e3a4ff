/* Steps of a network's quantisers for every bit-width: what a network whose bits change from one moment to the next
 * takes with it, so that a change of bits fits nothing anew (the clips by bit-width of GradFreeBits, arXiv 2102.09298).
 *
 * A step belongs to the quantiser that decides it: of several that share one, the one with the fewest bits. */
#ifndef QE_MODELS_STEP_BANK_H
#define QE_MODELS_STEP_BANK_H

#include "core/models/model.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_step_bank qe_step_bank;

/* Empty, for networks like `model` with any bits of 1...8 at its quantisers. */
QE_CHECKED qe_status qe_step_bank_new(const qe_model *model, qe_step_bank **bank);
void qe_step_bank_free(qe_step_bank *bank); /* NULL is fine */

/* The model's steps that have values, as those of its bits. The model: of the network that the bank was made for. */
void qe_step_bank_keep(qe_step_bank *bank, const qe_model *model);
/* The bank's steps at the model's bits into the model; where it has none, the model's become unfitted. */
void qe_step_bank_put(const qe_step_bank *bank, qe_model *model);
/* Forget all steps but those at the model's bits. */
void qe_step_bank_forget(qe_step_bank *bank, const qe_model *model);

/* As tensors "bank.STEP.BITS" added to `state`, and back. QE_FORMAT with the tensor that does not fit. */
QE_CHECKED qe_status qe_step_bank_give(const qe_step_bank *bank, qe_tensors *state);
QE_CHECKED qe_status qe_step_bank_take(qe_step_bank *bank, const qe_tensors *state, const char *file);

#ifdef __cplusplus
}
#endif
#endif
