/* version.h - what clubkeyd calls itself in --version, HELLO_OK, STATUS_OK and the audit log. */
#ifndef KEYD_VERSION_H
#define KEYD_VERSION_H

#define KEYD_VERSION "clubkeyd 0.1"

#endif
