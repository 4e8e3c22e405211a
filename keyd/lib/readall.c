#include "keyd/lib/readall.h"

#include <errno.h>
#include <stdint.h>
#include <unistd.h>

ssize_t readall(int fd, void *buf, size_t size)
{
	size_t len = 0;
	uint8_t more;

	for (;;) {
		ssize_t n = len < size ? read(fd, (uint8_t *)buf + len, size - len)
				       : read(fd, &more, 1);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return (ssize_t)len;
		if (len == size)
			return -EFBIG;
		len += (size_t)n;
	}
}
