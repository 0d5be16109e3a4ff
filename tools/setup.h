/* What subcommands share: device, data, augmentation, dumps. */
#ifndef QE_TOOLS_SETUP_H
#define QE_TOOLS_SETUP_H

#include "core/data/image_set.h"
#include "core/dispatch/dispatch.h"
#include "core/models/models.h"
#include "core/train/trainer.h"
#include "tools/command.h"

typedef struct qe_setup {
  qe_registry *registry;
  qe_device *device;
  qe_dataset *data;
  char *net; /* text of the description that --model names, if it names one */
} qe_setup;

/* Opens what --backend, --device, --threads and the options of data ask for. Says on stderr when the small built-in
 * subset stands in for the whole data set. `least_area`: as in qe_image_options. */
QE_CHECKED qe_status qe_setup_open(const qe_options *options, double least_area, qe_setup *setup);
void qe_setup_close(qe_setup *setup);
/* Whether a setup that was opened for the one would be the same for the other. Images of a folder are listed anew,
 * since searches hold them all. */
bool qe_setup_serves(const qe_setup *setup, const qe_options *opened, const qe_options *options);

/* The data set called `name`; a folder's images are listed only. */
QE_CHECKED qe_status qe_open_data(const qe_options *options, const char *name, double least_area, qe_dataset **data);
/* Decode a folder's images into memory if they must be there, for a search, or if they fit and are always the same. */
QE_CHECKED qe_status qe_hold_data(const qe_options *options, bool search, qe_dataset *data);
/* The members that augmentation has in `train`; the others are left as they are. */
void qe_read_augmentation(const qe_options *options, qe_train_options *train);
/* Where --model names a file with a description, reads it into the spec, which must not outlive the setup. QE_USAGE
 * when bits were given that the file does not leave open. */
QE_CHECKED qe_status qe_setup_net(const qe_options *options, qe_setup *setup, qe_model_spec *spec);

#define QE_RUN_MODEL "best.safetensors" /* what a run's folder stands for where a model is wanted */
/* *file (new text, qe_free): the path `given`; where that is a run's folder, its file called `own`, and that is said on
 * stderr. QE_USAGE: a folder without one. */
QE_CHECKED qe_status qe_file_meant(const char *given, const char *own, char **file);

/* QE_USAGE when what is to be written to `out` would take the place of the file `in`, or of a folder. */
QE_CHECKED qe_status qe_refuse_overwrite(const char *out, const char *in);

/* Whether a file can be written to `path`, as far as its folder tells: before work that would be lost. */
QE_CHECKED qe_status qe_check_place(const char *path);

/* --dump and --dump-dot. */
QE_CHECKED qe_status qe_dump_graph(const qe_options *options, const qe_graph *graph);

#endif
