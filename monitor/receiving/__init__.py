"""The DICOM network receiver: C-STORE and C-ECHO as a service class provider."""
