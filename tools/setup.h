/* What train and eval share: device, data, dumps. */
#ifndef QE_TOOLS_SETUP_H
#define QE_TOOLS_SETUP_H

#include "core/data/dataset.h"
#include "core/dispatch/dispatch.h"
#include "core/models/models.h"
#include "tools/command.h"

typedef struct qe_setup {
  qe_registry *registry;
  qe_device *device;
  qe_dataset *data;
  char *net; /* text of the description that --model names, if it names one */
} qe_setup;

/* Opens what --backend, --device, --threads, --data and --data-dir ask for. Says on stderr when the small built-in
 * subset stands in for the whole data set. */
QE_CHECKED qe_status qe_setup_open(const qe_options *options, qe_setup *setup);
void qe_setup_close(qe_setup *setup);

/* Where --model names a file with a description, reads it into the spec, which must not outlive the setup. QE_USAGE
 * when bits were given that the file does not leave open. */
QE_CHECKED qe_status qe_setup_net(const qe_options *options, qe_setup *setup, qe_model_spec *spec);

/* --dump and --dump-dot. */
QE_CHECKED qe_status qe_dump_graph(const qe_options *options, const qe_graph *graph);

#endif
