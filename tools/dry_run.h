/* train --dry-run: the plan of a run. */
#ifndef QE_TOOLS_DRY_RUN_H
#define QE_TOOLS_DRY_RUN_H

#include "core/methods/method.h"
#include "tools/setup.h"

/* Prints the resolved config and, as comments below it, so that the whole is a config file, what the run will take;
 * with
 * --json one object. */
QE_CHECKED qe_status qe_dry_run(const qe_options *options, const qe_method *method, const qe_setting *setting,
                                const qe_setup *setup, const char *config);

#endif
