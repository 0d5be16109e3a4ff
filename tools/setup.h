/* What subcommands share: device, data, augmentation, dumps. */
#ifndef QE_TOOLS_SETUP_H
#define QE_TOOLS_SETUP_H

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/graph/graph.h"
#include "core/train/trainer.h"
#include "tools/command.h"

typedef struct qe_setup {
  qe_registry *registry;
  qe_device *device;
  qe_dataset *data;
} qe_setup;

/* Opens what --backend, --device, --threads, --data and --data-dir ask for. Says on stderr when the small built-in
 * subset stands in for the whole data set. */
QE_CHECKED qe_status qe_setup_open(const qe_options *options, qe_setup *setup);
void qe_setup_close(qe_setup *setup);

/* The members that augmentation has in `train`; the others are left as they are. */
void qe_read_augmentation(const qe_options *options, qe_train_options *train);

/* --dump and --dump-dot. */
QE_CHECKED qe_status qe_dump_graph(const qe_options *options, const qe_graph *graph);

#endif
