/* A model: a graph with its parameter values, and its file (safetensors).
 *
 * File: one f32 tensor a parameter, named as in the graph (convolution weights [outputs, h, w, inputs], linear weights
 * [outputs, inputs], vectors, steps [1] or [outputs]); the metadata say how to build the graph again. */
#ifndef QE_MODELS_MODEL_H
#define QE_MODELS_MODEL_H

#include "core/base/safetensors.h"
#include "core/models/models.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct qe_model {
  qe_model_spec spec; /* its texts belong to the model */
  qe_graph *graph;
  float *values; /* the flat parameter vector, qe_graph_param_bytes long */
} qe_model;

/* Builds the graph; values as qe_model_init leaves them. */
QE_CHECKED qe_status qe_model_new(const qe_model_spec *spec, uint64_t seed, qe_model **model);
/* All values 0: for a caller who sets them. */
QE_CHECKED qe_status qe_model_new_blank(const qe_model_spec *spec, qe_model **model);
void qe_model_free(qe_model *model); /* NULL is fine */
/* The same where spec->name may be a file with a description. */
QE_CHECKED qe_status qe_model_new_named(const qe_model_spec *spec, uint64_t seed, qe_model **model);

/* He et al. 2015 normal weights (fan in), gamma 1, beta and biases 0, running mean 0 and variance 1, steps 1.
 * Draws depend on the seed and a parameter's name and place only. */
void qe_model_init(qe_model *model, uint64_t seed);
void qe_model_init_param(qe_model *model, int param, uint64_t seed); /* one of them */

/* A model of the same network with other bits and the values of `from`. Steps of quantisers that have changed are to be
 * fitted anew (qe_fit_steps). */
QE_CHECKED qe_status qe_model_requantize(const qe_model *from, const qe_bits *bits, qe_model **model);

/* Values of one parameter. */
float *qe_model_values(const qe_model *model, int param);

/* Copy all parameters that `tensors` has; shapes must agree. Steps that it lacks stay uninitialised; other missing
 * parameters are QE_FORMAT. `file` is for messages. */
QE_CHECKED qe_status qe_model_take(qe_model *model, const qe_tensors *tensors, const char *file);

/* Add parameters and spec to a list of tensors, from where it can be written to a file. Steps that have no value yet
 * are left out, so that who reads the file knows that they are to be fitted. */
QE_CHECKED qe_status qe_model_give(const qe_model *model, qe_tensors *tensors);

/* QE_USAGE unless the file was saved with the very spec of the model. */
QE_CHECKED qe_status qe_model_check_spec(const qe_model *model, const qe_tensors *tensors, const char *file);

/* The spec a file was saved with; its texts point into `tensors`. */
QE_CHECKED qe_status qe_model_read_spec(const qe_tensors *tensors, const char *file, qe_model_spec *spec);

/* Read a model as it was saved; QE_FORMAT when its quantisers have no steps yet. `tensors` (may be NULL) receives the
 * file's tensors and metadata, to be freed. */
QE_CHECKED qe_status qe_model_read(const char *path, qe_model **model, qe_tensors **tensors);

/* The same of the tensors of a file; no more memory than they take. */
QE_CHECKED qe_status qe_model_of_tensors(const qe_tensors *tensors, const char *file, qe_model **model);

#ifdef __cplusplus
}
#endif
#endif
