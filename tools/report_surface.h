/* report surface: losses on a plane through captured models, as files and as a page. */
#ifndef QE_TOOLS_REPORT_SURFACE_H
#define QE_TOOLS_REPORT_SURFACE_H

#include "tools/command.h"

/* Whether the first argument asks for it. */
bool qe_report_is_surface(const qe_options *options);
/* Makes the surface and its files. *run: the folder (the options') whose report shows it now; NULL: none does. */
QE_CHECKED qe_status qe_report_surface(qe_options *options, const char **run);

#endif
