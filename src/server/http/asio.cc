// Asio's own code, compiled here and nowhere else (BOOST_ASIO_SEPARATE_COMPILATION).
//
// Owns nothing of ours: the files that use Asio then compile in a fraction of the time.
#include <boost/asio/impl/src.hpp>
